"""What Google allows on its machines, as far as we read it: said before the first tunnel to one of them."""

FAQ = "https://research.google.com/colaboratory/faq.html"

TERMS = (
    "Google's terms never allow remote proxies, file hosting or mining on Colab; on a free runtime without "
    "compute units also no remote control such as SSH shells, and no way around the notebook's interface. "
    f"Use paid compute units, and read {FAQ}"
)
