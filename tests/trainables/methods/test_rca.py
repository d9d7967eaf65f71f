"""What the recorded traces of RCA leave open."""

import torch
from torch import Tensor

from trainables.methods.rca import VirtualAdversarialConfig, adversarial_perturbation
from trainables.runtime.randomness import generator


def test_search_converges_to_the_direction_of_greatest_change() -> None:
    rng = generator(0, "rca")
    weight = 0.1 * torch.randn(10, 12, generator=rng, dtype=torch.float64)
    image = torch.randn(1, 3, 2, 2, generator=rng, dtype=torch.float64)
    noise = torch.randn(1, 3, 2, 2, generator=rng, dtype=torch.float64)

    def classify(images: Tensor) -> Tensor:
        return images.flatten(start_dim=1) @ weight.T

    logits = classify(image)
    p = logits.softmax(dim=1)[0]
    hessian = weight.T @ (p.diag() - torch.outer(p, p)) @ weight
    steepest = torch.linalg.eigh(hessian).eigenvectors[:, -1]

    def alignment(num_power_steps: int) -> float:
        config = VirtualAdversarialConfig(xi=1e-4, epsilon=0.5, num_power_steps=num_power_steps)
        found = adversarial_perturbation(classify, image, logits, noise, config).flatten()
        torch.testing.assert_close(
            found.norm(), torch.tensor(0.5, dtype=found.dtype), atol=1e-5, rtol=0
        )
        return float((found @ steepest).abs() / found.norm())

    assert alignment(1) < 0.95 and alignment(30) > 0.999


def test_perturbation_is_a_constant() -> None:
    images = torch.randn(2, 3, 2, 2, generator=generator(0, "rca"))
    weight = torch.randn(3, 12, generator=generator(0, "weight"), requires_grad=True)
    logits = images.flatten(start_dim=1) @ weight.T
    found = adversarial_perturbation(
        lambda x: x.flatten(start_dim=1) @ weight.T,
        images,
        logits,
        images,
        VirtualAdversarialConfig(xi=0.01),
    )
    assert not found.requires_grad and weight.grad is None
