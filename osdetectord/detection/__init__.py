"""Detection: evidences of abnormality, their calibration, the alarm rule and episodes."""
