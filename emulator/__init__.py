"""The Yandex Cloud API on 127.0.0.1: real gRPC over TLS, realistic states, strict requests, faults on demand."""
