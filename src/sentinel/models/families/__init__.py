"""Families of models: each is one class in one file, found by the entry point `sentinel.trainers`.

    trainer               what a family is: `Trainer`, `Task`, `Validation`, and what a search tries
    installed             which families there are, and how their names are spelled
    lightgbm, xgboost,    the families that come with Sentinel
    random_forest,
    lightgbm_forest,
    logistic_regression

A package adds a family without a change here: docs/trainers.md has CatBoost as the example.
"""
