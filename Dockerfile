FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
ARG VERSION=dev
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=$VERSION" -o /hashfinder ./cmd/hashfinder

FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /hashfinder /hashfinder
# Asks the roles that the environment gives this process.
HEALTHCHECK --interval=2s --timeout=3s --start-period=30s --retries=5 CMD ["/hashfinder", "healthcheck"]
ENTRYPOINT ["/hashfinder"]
CMD ["serve"]
