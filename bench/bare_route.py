"""The yardstick of `runtime_http`: a bare FastAPI route with `/triage`'s own schemas, and no more.

`python bench/bare_route.py PORT`: the same uvicorn, loop and parser as the runtime's.
"""

import sys

import fastapi
import uvicorn

from chatmodel_runtime import answers
from chatmodel_runtime.schemas.triage import TriageRequest, TriageResponse, Usage

ANSWER = "[mock] No language model has read question 4a3f21. On record: sex: female."

app = fastapi.FastAPI(openapi_url=None)


@app.post("/triage")
async def ask(body: TriageRequest) -> TriageResponse:
    """Answer at once."""
    return TriageResponse(
        trace_id="5f4dcc3b-5aa7-45d6-8327-deb882cf99aa",
        patient_mrn=body.patient_mrn,
        query=body.query,
        llm_mode="mock",
        response=ANSWER,
        inference_time_ms=0.1,
        conversation_id=None,
        urgency="unknown",
        finish_reason="stop",
        thinking_truncated=False,
        usage=Usage(prompt_tokens=40, completion_tokens=20),
        model="mock",
        revision="standalone",
        degraded=False,
        safety_note=answers.SAFETY_NOTE,
    )


if __name__ == "__main__":
    uvicorn.run(
        app,
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
    )
