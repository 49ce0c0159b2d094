"""What models of version 0.1.0.dev0 call the scalers of a target."""

from .target_scalers import LogTargetScaler, RobustTargetScaler

__all__ = ["LogTarget", "RobustTarget"]

LogTarget, RobustTarget = LogTargetScaler, RobustTargetScaler
