"""galm_tf: a small network per image attribute, designed by a learned controller.

An implementation of GALM (Cheng et al., "Learning to Transfer: Generalizable
Attribute Learning with Multitask Neural Model Search", ACM MM 2018).
"""

__version__ = "0.1.0"
