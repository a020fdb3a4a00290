//! What is SQLite's own: files, locks, plans and the sharing of commits.
