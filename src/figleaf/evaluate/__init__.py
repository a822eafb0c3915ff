"""From predictions to numbers: metrics, thresholds, intervals, figures."""
