"""Scores of events: rule sets as data, judged over whole matrices of features.

`rules` says what a rule set is; `judging` is the compiled loop; `rule_scorer` joins both.
"""
