"""`%colab_tunnel`: from a notebook to the GPU machine and back. A target in, an open session out."""
