"""Speed of the model, the synthesis of abnormalities and the bank. Imports no Ray.

Requires only torch, numpy, pandas and pyarrow, also on a bare GPU machine. Compared tasks are timed
in turns in one process, because machines are shared and noisy.
"""

from homnet.records.benchmark.figures import draw_scaling
from homnet.records.benchmark.run import BenchmarkConfig, benchmark

__all__ = ["BenchmarkConfig", "benchmark", "draw_scaling"]
