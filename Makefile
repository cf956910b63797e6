# `make demo` and `make test` need Python 3.11-3.13 and nothing else; the first makes .venv.
VENV ?= .venv
BIN := $(VENV)/bin
# The first interpreter that the package supports; PYTHON=... names another.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3 python; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null \
	&& echo $$p && break; done)

.PHONY: demo test lint format protos clean
.DELETE_ON_ERROR:

demo: $(VENV)/.installed
	$(BIN)/vsam demo --out demo

test: $(VENV)/.installed
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The services' messages, and where platforms like Acumos look for each; a test tells when it is due.
PROTOS := tag:tag_my_outfit pose:open_pose source:image_source view:visualization
protos: $(VENV)/.installed
	for each in $(PROTOS); do \
		stage=$${each%%:*}; name=$${each#*:}; \
		$(BIN)/python -m grpc_tools.protoc -I vsam/vsam/serving \
			--descriptor_set_out=vsam/vsam/serving/$$name.binpb $$name.proto || exit 1; \
		mkdir -p deploy/acumos/$$stage; \
		cp vsam/vsam/serving/$$name.proto deploy/acumos/$$stage/model.proto; \
	done

clean:
	rm -rf $(VENV) demo

# Installed anew only when what is to be installed has changed.
$(VENV)/.installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed; none was found." >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt --editable '.[all,dev]'
	touch $@
