"""report.html: a sweep as a page that opens anywhere, from what its folder and the store hold."""
