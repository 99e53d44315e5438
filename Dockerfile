# docker build -t reid-lab .                                              with CUDA; also runs on CPUs
# docker build -t reid-lab --build-arg VARIANT=cpu --build-arg TORCH_INDEX=ADDRESS .     CPU only, small
# docker run --rm -v "$PWD/runs:/work/runs" reid-lab +experiment=demo            see docs/docker.md
ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS build
ARG VARIANT=cuda
# an additional index with torch wheels without CUDA
ARG TORCH_INDEX=
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 VIRTUAL_ENV=/opt/venv PATH=/opt/venv/bin:$PATH
WORKDIR /src
COPY constraints.txt ./
RUN case "$VARIANT" in \
      cuda) ;; \
      cpu) test -n "$TORCH_INDEX" || { echo "VARIANT=cpu: set TORCH_INDEX to torch's CPU wheels"; exit 1; } ;; \
      *) echo "VARIANT=$VARIANT: allowed are cpu and cuda"; exit 1 ;; \
    esac \
    && python -m venv "$VIRTUAL_ENV" \
    && python -m pip install --constraint constraints.txt \
       ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} torch torchvision \
    && python -c "import sys, torch; sys.exit('$VARIANT' == 'cpu' and torch.version.cuda \
       and f'TORCH_INDEX has no torch {torch.__version__} without CUDA')"
COPY pyproject.toml README.md LICENSE ./
COPY src src
COPY conf conf
RUN python -m pip install --constraint constraints.txt '.[export,dashboard,serve]'

# the service alone, without torch: docker build --target serve .
FROM python:${PYTHON}-slim AS serve
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1
COPY constraints.txt pyproject.toml README.md LICENSE /src/
COPY src /src/src
COPY conf /src/conf
RUN python -m pip install --constraint /src/constraints.txt numpy pillow pydantic pyyaml rich filelock simplejpeg \
       annotated-types fastapi uvicorn httptools uvloop python-multipart prometheus-client onnxruntime \
    && python -m pip install --no-deps /src \
    && useradd --create-home --uid 1000 reid && install -d -o reid -g reid /work
USER 1000
WORKDIR /work
EXPOSE 8000
HEALTHCHECK CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health')"]
ENTRYPOINT ["reid-lab", "serve", "--host", "0.0.0.0"]
CMD ["--help"]

FROM python:${PYTHON}-slim
ARG COMMIT=
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 REID_LAB_COMMIT=$COMMIT
RUN useradd --create-home --uid 1000 reid && install -d -o reid -g reid /work /work/runs
COPY --from=build /opt/venv /opt/venv
USER 1000
WORKDIR /work
ENTRYPOINT ["python", "-m", "reid_lab"]
CMD ["--help"]
