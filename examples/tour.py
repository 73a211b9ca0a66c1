# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A tour of the three problems
#
# Digits with guidance, faces with η and slerp, and features of two domains, all by the released networks on a CPU.
# In Colab, run `!git clone` with the repository's address in a cell of its own first; elsewhere start Jupyter inside
# the repository.

# %%
import sys
from pathlib import Path

near = [Path.cwd(), *Path.cwd().parents, *sorted(Path.cwd().iterdir())]
here = next((folder for folder in near if (folder / "p1_cond_ddpm").is_dir()), None)
if here is None:
    raise FileNotFoundError(f"the repository isn't in {Path.cwd()}; git clone it there")
sys.path.insert(0, str(here))

import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.manifold import TSNE

from common.images import grid
from p1_cond_ddpm import SampleOptions, load_denoiser, sample_digits
from p2_ddim import lerp, load_face_unet, sample_faces, slerp, to_pictures
from p2_ddim.noise import seeded_noises
from p3_dann import load_classifier, predict_digits
from p3_dann.shift import answers

STEPS = 10  # of DDIM; the homework takes 50


def picture(images, columns):
    """uint8 images (N, 3, H, W) as one picture, three times as large."""
    pixels = Image.fromarray(grid(images, columns).permute(1, 2, 0).numpy())
    return pixels.resize((3 * pixels.width, 3 * pixels.height), Image.Resampling.NEAREST)


# %%
# Three sevens: an image depends on its label and its seed alone
denoiser = load_denoiser()
picture(sample_digits(denoiser, labels=[7, 7, 7], seeds=[0, 1, 2]), columns=3)

# %%
# The same three noises at guidance scales 1 (off), 2, 3.5 and 6, a row for each
scales = [SampleOptions(guidance_scale=scale) for scale in (1, 2, 3.5, 6)]
picture(torch.cat([sample_digits(denoiser, [3, 5, 8], [0, 1, 2], options) for options in scales]), columns=3)

# %% [markdown]
# ## Faces
#
# DDIM with η = 0 is a function of the starting noise. With η = 1 it draws new noise at every step, as DDPM does.

# %%
faces = load_face_unet(here / "checkpoints" / "p2_celeba32.pt")
noises = seeded_noises(3, 32)
with torch.inference_mode():
    rows = [sample_faces(faces, noises, num_steps=STEPS, eta=eta) for eta in (0.0, 0.5, 1.0)]
picture(to_pictures(torch.cat(rows)), columns=3)

# %%
# Between the first two noises: on the sphere above, on the straight line below, where the noise shrinks
weights = [0.0, 0.25, 0.5, 0.75, 1.0]
between = torch.stack([way(noises[0], noises[1], w) for way in (slerp, lerp) for w in weights])
with torch.inference_mode():
    blended = sample_faces(faces, between, num_steps=STEPS)
picture(to_pictures(blended), columns=len(weights))

# %% [markdown]
# ## Two domains
#
# The USPS network on digits that problem 1 draws (its source domain) and on scikit-learn's scanned ones, which it has
# never seen.

# %%
scans = load_digits()
labels = torch.arange(100) % 10
drawn = sample_digits(denoiser, labels, range(100))
enlarged = [Image.fromarray((scan * 255 / 16).astype(np.uint8)).resize((28, 28)) for scan in scans.images[:100]]
scanned = torch.from_numpy(np.stack(enlarged))[:, None].expand(-1, 3, -1, -1)
classifier = load_classifier("usps")
for name, images, truth in (("drawn", drawn, labels), ("scanned", scanned, torch.from_numpy(scans.target[:100]))):
    print(f"{name}: {(predict_digits(classifier, images) == truth).float().mean():.0%}")

# %%
# Their features by t-SNE, coloured by class: circles are drawn, crosses are scanned
points = TSNE(perplexity=20, random_state=0).fit_transform(answers(classifier, torch.cat([drawn, scanned])).features)
figure, axes = plt.subplots(figsize=(5, 5))
axes.scatter(*points[:100].T, c=labels, cmap="tab10", marker="o")
axes.scatter(*points[100:].T, c=scans.target[:100], cmap="tab10", marker="x")
