"""A FastAPI route that validates a 25-field body and answers a constant: what a framework costs."""

from __future__ import annotations

import argparse

from fastapi import FastAPI

from benchmarks.peers.payment import Answer, Payment, serve

app = FastAPI()


@app.post("/predict")
async def predict(payment: Payment) -> Answer:
    return Answer(transaction_id=payment.transaction_id, is_fraud=False, fraud_probability=0.0123)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    serve(app, parser.parse_args().port)
