"""A training loop to set breakpoints in.

    jupyter colab tunnel debug examples/debug_gpu_example.py --epochs 3

It fits a small network to a noisy sine, on the GPU where there is one.
"""

from __future__ import annotations

import argparse
import math

import torch


def make_data(points: int, *, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and targets, both of shape (points, 1)."""
    x = torch.linspace(-math.pi, math.pi, points, device=device).unsqueeze(1)
    return x, torch.sin(x) + 0.05 * torch.randn_like(x)


def train(epochs: int, *, device: torch.device) -> float:
    """Train, and return the last loss."""
    torch.manual_seed(0)
    x, y = make_data(512, device=device)
    model = torch.nn.Sequential(torch.nn.Linear(1, 32), torch.nn.Tanh(), torch.nn.Linear(32, 1)).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    loss = torch.zeros(())
    for epoch in range(epochs):
        prediction = model(x)
        loss = torch.nn.functional.mse_loss(prediction, y)  # a breakpoint here: look at prediction.device
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(f"epoch {epoch}: loss {loss.item():.4f}")
    return loss.item()


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description="Train a small network on whatever device is there.")
    parser.add_argument("--epochs", type=int, default=100)
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print(f"training on {device}")
    train(arguments.epochs, device=device)


if __name__ == "__main__":
    main()
