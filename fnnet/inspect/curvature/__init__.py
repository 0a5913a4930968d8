"""Second order: products with curvature matrices, eigenvalues, traces, densities, gradient noise and stability.

Everything is a pure function, inside ``jit``, ``vmap`` and ``scan``. A curvature matrix is a product with it, such as
``partial(hvp, cost, params, batch)``, which may go through a whole data set by ``over_batches``; ``eigenvalues``,
``trace``, ``diagonal`` and ``spectral_density`` take any symmetric product on trees like the parameters::

    product = partial(over_batches(hvp, 256), cost, params, (x, y))
    top = eigenvalues(product, params, key=key, k=3, where=lambda name: name.startswith("0."))
"""

from fnnet.inspect.curvature.estimates import Estimate, diagonal, trace
from fnnet.inspect.curvature.lanczos import (
    Eigenpairs,
    Eigenvalues,
    SpectralDensity,
    eigenvalues,
    spectral_density,
)
from fnnet.inspect.curvature.noise import (
    GradientStatistics,
    NoiseScale,
    gradient_noise_scale,
    gradient_statistics,
    noise_scale,
)
from fnnet.inspect.curvature.products import fisher_vp, ggn_vp, hvp, over_batches
from fnnet.inspect.curvature.stability import (
    Sharpness,
    scaled_product,
    sharpness,
    stability_limit,
    stability_limits,
)

__all__ = [
    "Eigenpairs",
    "Eigenvalues",
    "Estimate",
    "GradientStatistics",
    "NoiseScale",
    "Sharpness",
    "SpectralDensity",
    "diagonal",
    "eigenvalues",
    "fisher_vp",
    "ggn_vp",
    "gradient_noise_scale",
    "gradient_statistics",
    "hvp",
    "noise_scale",
    "over_batches",
    "scaled_product",
    "sharpness",
    "spectral_density",
    "stability_limit",
    "stability_limits",
    "trace",
]
