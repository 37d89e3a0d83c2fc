"""Frozen networks that turn windows of frames into 1024×7×7 maps."""
