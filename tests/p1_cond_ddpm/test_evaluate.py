import torch

from p1_cond_ddpm.evaluate import nearest_distance


def test_nearest_distance_is_the_root_mean_square_to_the_closest():
    training = torch.randint(0, 256, (50, 3, 28, 28), dtype=torch.uint8)
    images = training[:3].clone()
    images[1] = (images[1].int() + 1).clamp(max=255).to(torch.uint8)
    images[2] = 255 - images[2]
    every = ((images[:, None].double() - training[None].double()) ** 2).flatten(2).mean(2).sqrt()
    distance = nearest_distance(images, training, batch_size=2)
    assert distance[0] == 0
    assert torch.allclose(distance.double(), every.amin(1), atol=1e-4)
