"""What is wrong with the data: copies across splits, doubtful labels, outliers."""
