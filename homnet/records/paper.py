"""The paper's figures, as printed, for comparison with ours.

Li, J., Fu, F., Wei, R., Sun, Y., Lai, Z., Song, N., Chen, X. and Yang, Y. (2024). Chromosomal
structural abnormality diagnosis by homologous similarity. KDD '24, pages 5317-5328,
https://doi.org/10.1145/3637528.3671642. AUC and F1 are in per cent, as in the paper. Its data are
private, so none of our figures measures exactly the same thing.
"""

from collections.abc import Mapping
from typing import Final

CITATION: Final = "Li et al., KDD 2024, doi 10.1145/3637528.3671642"
HOSPITALS: Final = ("Hos#1", "Hos#2", "Hos#3", "Hos#4")

TABLE_2: Final[Mapping[str, tuple[tuple[float, float], ...]]] = {
    "LR": ((72.43, 19.51), (75.23, 20.54), (81.72, 23.47), (75.56, 19.10)),
    "OC-SVM": ((49.8, 11.0), (47.9, 9.23), (65.6, 13.97), (17.38, 17.38)),
    "Deep-SVDD": ((46.91, 10.28), (59.31, 12.56), (64.83, 14.67), (51.13, 13.01)),
    "AE": ((60.27, 14.78), (63.74, 21.14), (65.82, 17.63), (61.41, 21.50)),
    "MLP-Mixer": ((90.76, 50.02), (92.83, 56.27), (85.24, 39.49), (91.20, 41.65)),
    "ViT": ((84.42, 24.81), (88.08, 35.84), (83.80, 34.12), (89.31, 27.84)),
    "ResNet": ((86.84, 24.26), (85.09, 26.72), (80.98, 32.37), (90.0, 34.09)),
    "Xception": ((89.38, 39.62), (88.95, 40.15), (79.39, 23.0), (94.24, 40.08)),
    "MobileNet": ((86.08, 28.32), (86.57, 35.29), (80.57, 28.97), (88.78, 34.37)),
    "DenseNet": ((87.59, 38.21), (87.95, 25.04), (81.69, 35.85), (91.66, 41.64)),
    "Siamese": ((58.73, 12.84), (58.74, 12.85), (49.2, 11.6), (70.97, 12.22)),
    "HomNet": ((91.64, 52.91), (95.73, 66.30), (91.64, 52.65), (98.25, 66.32)),
}
"""AUC and F1 of each hospital. OC-SVM's AUC of 17.38 at Hos#4 equals its F1: one is a misprint."""

TABLE_3: Final[Mapping[str, tuple[float, float]]] = {
    "LR": (60.82, 53.79),
    "OC-SVM": (45.72, 49.38),
    "Deep-SVDD": (48.51, 37.59),
    "AE": (49.73, 15.66),
    "MLP-Mixer": (50.22, 43.53),
    "ViT": (40.51, 51.89),
    "ResNet": (51.68, 38.28),
    "Xception": (48.88, 38.15),
    "MobileNet": (70.31, 58.97),
    "DenseNet": (50.58, 31.87),
    "Siamese": (74.09, 59.95),
    "HomNet": (75.71, 64.04),
}
"""AUC and F1 on Pki-3 with artificial abnormalities."""

TABLE_4: Final[Mapping[str, tuple[tuple[float, float], ...]]] = {
    "w/o pair": ((78.13, 17.45), (79.42, 16.42), (75.31, 19.48), (91.63, 16.51)),
    "align → MLP": ((87.82, 46.98), (86.19, 39.20), (71.40, 28.17), (97.32, 58.65)),
    "align → CNN": ((78.12, 17.42), (79.43, 16.38), (75.33, 19.82), (91.65, 16.45)),
    "w/o bag": ((88.91, 42.05), (88.13, 45.28), (88.23, 47.45), (93.91, 46.30)),
    "range 8": ((90.41, 52.72), (94.03, 62.81), (91.52, 51.91), (98.19, 66.76)),
    "range 16": ((91.43, 46.12), (92.34, 58.85), (91.12, 50.78), (97.04, 58.00)),
    "range 32": ((91.64, 52.91), (95.73, 66.30), (91.64, 52.65), (98.25, 66.32)),
    "range 48": ((58.32, 13.56), (67.63, 17.82), (60.51, 13.73), (74.04, 15.07)),
    "range 64": ((50.61, 11.03), (54.64, 12.06), (59.60, 12.13), (49.62, 9.45)),
}
"""AUC and F1 of each hospital. "w/o pair" and "align → CNN" agree within .02 in nearly every cell,
which is implausible for two different models."""

TABLE_5: Final[Mapping[str, tuple[float, float]]] = {
    "LR": (0.08, 3543),
    "OC-SVM": (41.16, 23812),
    "Deep-SVDD": (11.72, 5067),
    "AE": (16.51, 11398),
    "MLP-Mixer": (1.62, 1549),
    "ViT": (2.45, 3832),
    "Xception": (9.33, 9772),
    "MobileNet": (1.80, 5948),
    "DenseNet": (13.49, 10998),
    "Siamese": (18.18, 10229),
    "HomNet": (5.39, 2468),
}
"""Seconds for 100 batches and until convergence, on unnamed hardware. ResNet is absent, and the
paper does not say whether batches are for training or scoring."""
