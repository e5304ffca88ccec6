-- Run once, by the container's first start: the image itself makes the database of POSTGRES_DB, Prefect's.
create database mlflow;
create database service;
