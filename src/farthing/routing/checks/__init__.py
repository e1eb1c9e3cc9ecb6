"""Whether an answer is good enough, or the next model is asked."""
