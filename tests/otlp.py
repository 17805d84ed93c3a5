"""An OTLP/HTTP receiver: it decodes the official protobuf and keeps what came."""

from __future__ import annotations

import gzip
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class Receiver:
    """``status`` is what it answers, by path or for all; ``spans`` are those it took, ``metrics`` the newest of each
    name, ``resources`` whose they were, ``headers`` those of the newest request."""

    def __init__(self) -> None:
        self.status: dict[str, int] = {}
        self.requests: list[str] = []
        self.spans: list[Span] = []
        self.metrics: dict[str, Metric] = {}
        self.resources: set[tuple[tuple[str, str], ...]] = set()
        self.headers: dict[str, str] = {}
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                receiver.headers = {key.lower(): value for key, value in self.headers.items()}
                status = receiver.status.get(self.path, 200)
                receiver.requests.append(self.path)
                answer = receiver._take(self.path, body) if status == 200 else b""
                self.send_response(status)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"

    def _take(self, path: str, body: bytes) -> bytes:
        if path == "/v1/traces":
            for traces in ExportTraceServiceRequest.FromString(body).resource_spans:
                self._resource(traces.resource)
                for of_scope in traces.scope_spans:
                    self.spans += of_scope.spans
            return bytes(ExportTraceServiceResponse().SerializeToString())
        assert path == "/v1/metrics", path
        for numbers in ExportMetricsServiceRequest.FromString(body).resource_metrics:
            self._resource(numbers.resource)
            for scope in numbers.scope_metrics:
                self.metrics |= {metric.name: metric for metric in scope.metrics}
        return bytes(ExportMetricsServiceResponse().SerializeToString())

    def _resource(self, resource: Any) -> None:
        pairs = {pair.key: pair.value.string_value for pair in resource.attributes}
        self.resources.add(tuple(sorted(pairs.items())))

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
