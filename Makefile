# Two commands do everything, set-up included: `make sweep` and `make test`.

.PHONY: help sweep competence test check check-chaos bench setup doctor

help:
	@echo "make sweep    set up, build, and compare five mixers on configs/quick.yaml"
	@echo "make competence  set up, build, and hold every mixer to what its paper says it can do"
	@echo "make test     set up and run every test"
	@echo "make check    what CI runs (format, circles of files, lints, tests), and the documentation"
	@echo "make check-chaos  kill the processes of a sweep at random, and hold what is left against one left alone"
	@echo "make bench    speed of mixers and generators: compare ratios within one run"
	@echo "make setup    bring libtorch 2.11.0 to .libtorch (CUDA=1 for the CUDA libraries as well)"
	@echo "make doctor   say what works on this machine"

setup:
	@CUDA=$(CUDA) sh scripts/setup.sh

sweep: setup
	cargo run --locked -- sweep configs/quick.yaml

# Exit code 1 where a mixer misses an expectation.
competence: setup
	cargo run --locked -- sweep configs/competence.yaml

# Tests run side by side: threads that spin while they wait would take the cores from each other.
test: setup
	OMP_WAIT_POLICY=passive cargo test --workspace --locked

check: setup
	cargo fmt --all -- --check
	scripts/circles --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	OMP_WAIT_POLICY=passive cargo test --workspace --locked
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked

# Some minutes: forty kills; `scripts/chaos.sh -k 400 -t 1800` is the long form.
check-chaos: setup
	cargo build --locked
	scripts/chaos.sh

# `cargo bench` alone would build polars once more, for a profile of its own.
bench: setup
	cargo bench --workspace --locked --profile dev --bench kernels --bench mixers --bench generators

doctor: setup
	cargo run --locked -- doctor
