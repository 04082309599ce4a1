"""How fast the model, the synthesis of abnormalities and the bank are; imports no Ray.

Runs wherever torch, numpy, pandas and pyarrow are, on a bare GPU machine too. Everything that is
compared is timed in turns in one process, because machines are shared and noisy.
"""

from homnet.records.benchmark.figures import draw_scaling
from homnet.records.benchmark.run import BenchmarkConfig, benchmark

__all__ = ["BenchmarkConfig", "benchmark", "draw_scaling"]
