# The page and the REST server: docker build -t lenet . && docker run --rm -p 8028:8028 lenet
# It needs no write access, no privileges and no network; more in SECURITY.md:
#   docker run --rm -p 127.0.0.1:8028:8028 --read-only --cap-drop ALL \
#       --security-opt no-new-privileges --pids-limit 100 --memory 1g lenet
FROM python:3.11-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends g++
COPY . /source
RUN pip wheel --no-cache-dir --constraint /source/constraints.txt --wheel-dir /wheels '/source[web]'

FROM python:3.11-slim
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-index --find-links /wheels 'lenet[web]' \
    && useradd --create-home lenet
USER lenet
EXPOSE 8028
HEALTHCHECK --interval=10s --timeout=3s CMD ["python", "-c", \
    "from urllib.request import urlopen; urlopen('http://127.0.0.1:8028/healthz', timeout=2)"]
ENTRYPOINT ["lenet", "serve", "--host", "0.0.0.0"]
