"""A web service: send a photograph and the name of a style, and fetch the picture.

    pip install -e ".[examples]"
    python examples/fastapi_service.py

    curl -F photo=@photo.jpg -F style=monet localhost:8000/pictures    # {"id": "7f...", ...}
    curl localhost:8000/pictures/7f...                                 # its state and progress
    curl -o out.jpg localhost:8000/pictures/7f.../image
    curl -X DELETE localhost:8000/pictures/7f...                       # cancels it

One process, one queue, one device. What it leaves to a proxy in front: who may use it, how often,
and TLS.
"""

import threading
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any

import uvicorn
from fastapi import FastAPI, Form, Request, Response, UploadFile
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import HTTPException
from fastapi.responses import JSONResponse

import impasto
from impasto.images import Picture

SIZE = 512  # shorter side of a result, in pixels
MOST_BYTES = 20_000_000  # of an upload
MOST_PIXELS = 50_000_000  # of a photograph; more are refused before they are decoded
MOST_WAITING = 8  # pictures that are queued or being painted
MOST_KEPT = 64  # pictures that are kept, the latest
STATUS = {"input": 422, "memory": 503, "device": 503, "disk": 507, "download": 502}


@dataclass
class Job:
    """One picture that was asked for."""

    work: Future[bytes] = field(default_factory=Future)
    cancelled: threading.Event = field(default_factory=threading.Event)
    share: float = 0.0  # of the work that is done

    @property
    def state(self) -> str:
        """Queued, running, done, failed or cancelled."""
        if self.cancelled.is_set():
            return "cancelled"
        if not self.work.done():
            return "running" if self.work.running() else "queued"
        return "failed" if self.work.exception() else "done"

    @property
    def fault(self) -> BaseException | None:
        """Why it failed."""
        return self.work.exception() if self.state == "failed" else None


def answer_to(fault: BaseException) -> JSONResponse:
    """What a client may read: impasto's errors are for people, others are the service's own."""
    if not isinstance(fault, impasto.ImpastoError):
        return JSONResponse({"code": "error", "message": "the service failed"}, 500)
    body = {"code": fault.code, "message": str(fault), "option": fault.option}
    return JSONResponse(body, STATUS.get(fault.code, 500))


def create_app(
    method: str = "ghiasi", styles: tuple[str, ...] = ("monet", "starry_night"), **options: Any
) -> FastAPI:
    """The service. `options` are the method's."""
    sessions: dict[str, impasto.Session] = {}
    jobs: dict[str, Job] = {}  # only the event loop adds and removes
    worker = ThreadPoolExecutor(1, "painter")  # a second picture would only slow down the first

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        loaded = impasto.load(method, **options)  # once, for all styles
        for style in styles:
            sessions[style] = impasto.Session(loaded, style, size=SIZE, max_pixels=MOST_PIXELS)
        yield
        for job in jobs.values():
            job.cancelled.set()
        worker.shutdown(cancel_futures=True)

    app = FastAPI(title="impasto", lifespan=lifespan)

    @app.exception_handler(impasto.ImpastoError)
    async def on_fault(_: Request, fault: Exception) -> Response:
        return answer_to(fault)

    @app.middleware("http")
    async def limit_uploads(
        request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        # Before the upload is read. The server sees to it that no more comes than is announced.
        length = request.headers.get("content-length", "")
        if request.method == "POST" and not length:
            return JSONResponse({"code": "input", "message": "send Content-Length"}, 411)
        if length and int(length) > MOST_BYTES:
            message = f"the upload is too large: {MOST_BYTES} bytes at most"
            return JSONResponse({"code": "input", "message": message}, 413)
        return await call_next(request)

    def find(id: str) -> Job:
        if id not in jobs:
            raise HTTPException(404, "no such picture")
        return jobs[id]

    def paint(job: Job, session: impasto.Session, photo: Picture) -> bytes:
        def on_step(step: impasto.Step) -> bool:
            job.share = step.share
            return job.cancelled.is_set()

        result = session(photo, on_step)
        return result.to_bytes("jpeg", quality=90, metadata=False)  # nothing of who took it

    @app.post("/pictures", status_code=202)
    async def create(photo: UploadFile, style: Annotated[str, Form()]) -> dict[str, str]:
        if style not in sessions:
            message = f"style {style!r} is unknown: use one of {', '.join(sessions)}"
            raise impasto.InputError(message, option="style")
        if sum(not job.work.done() for job in jobs.values()) >= MOST_WAITING:
            raise HTTPException(503, "too many pictures are waiting", {"Retry-After": "30"})
        id = uuid.uuid4().hex  # not to be guessed
        job = jobs[id] = Job()  # which counts for the limit from now on, while it is read too
        try:
            # Bytes, never a name: read() would open a path. A bad file is refused at once, and of
            # a large one only a small picture waits.
            data = await photo.read()
            picture = await run_in_threadpool(sessions[style].read, data)
        except BaseException:
            del jobs[id]
            raise
        job.work = worker.submit(paint, job, sessions[style], picture)
        finished = [old for old, each in jobs.items() if each.work.done()]
        for old in finished[: max(0, len(jobs) - MOST_KEPT)]:
            del jobs[old]
        return {"id": id, "state": job.state}

    @app.get("/pictures/{id}")
    async def progress(id: str) -> dict[str, Any]:
        job = find(id)
        share = 1.0 if job.state == "done" else round(job.share, 3)
        return {"id": id, "state": job.state, "share": share}

    @app.get("/pictures/{id}/image")
    async def image(id: str) -> Response:
        job = find(id)
        if job.fault is not None:
            return answer_to(job.fault)
        if job.state != "done":
            raise HTTPException(409, f"the picture is {job.state}")
        return Response(job.work.result(), media_type="image/jpeg")

    @app.delete("/pictures/{id}", status_code=204)
    async def cancel(id: str) -> None:
        job = find(id)
        job.cancelled.set()  # which the next step reads
        job.work.cancel()  # if it still waits

    return app


if __name__ == "__main__":
    impasto.tune()
    uvicorn.run(create_app())
