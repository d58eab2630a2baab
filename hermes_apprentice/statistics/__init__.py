"""Pure statistics: intervals, sequential tests, risk control, open-set scoring."""
