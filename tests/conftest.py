import os

# SciPy reads it once, on import; without it scikit-learn skips its array API check.
os.environ.setdefault("SCIPY_ARRAY_API", "1")
