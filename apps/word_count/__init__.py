"""Word count: map, combine, partition, reduce."""
