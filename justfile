# A convenience: everything here works without `just`.

# List the recipes.
default:
    @just --list

# Start everything in one process, on SQLite.
run *args:
    cargo run -- {{ args }}

# Format the sources.
fmt:
    cargo fmt --all

# The lints alone.
lint:
    cargo clippy --workspace --all-targets -- -D warnings

# All tests; `just test --long` includes the long ones.
test *args:
    ./tests/run {{ args }}

# The layering, the form of files, and links.
tidy:
    cargo test --package tidings-tests --test tidy

# The documentation of the code.
doc:
    cargo doc --workspace --no-deps --open

# What a change must pass.
ci:
    bash .ci/run

# Write docs/openapi.json anew from the code.
openapi:
    TIDINGS_TEST_UPDATE_OPENAPI=1 cargo test --package tidings-api --test it openapi
