"""The dial between tuple-by-tuple and micro-batch: latency and throughput across batch size and buffer timeout."""
