"""Everything a caller gives for a frame, put together into what VACE is fed: one picture and one mask."""
