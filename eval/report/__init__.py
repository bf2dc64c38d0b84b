"""The report: data, settings, results and their intervals as one HTML page that opens from disk."""
