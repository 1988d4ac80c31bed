"""What Sentinel tells of itself: metrics now, drift later."""
