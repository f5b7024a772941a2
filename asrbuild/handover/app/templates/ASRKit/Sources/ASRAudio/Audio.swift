import ASRCore
