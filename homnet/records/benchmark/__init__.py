"""Speed of the model, the synthesis of abnormalities and the bank. Imports no Ray.

``device`` measures what one device reaches, ``run`` compares implementations. Compared tasks are
timed in turns in one process, because machines are shared and noisy.
"""
