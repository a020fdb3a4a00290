//! A cluster on services of the test's own, and what becomes of it when they fail.

mod chaos;
mod stack;
