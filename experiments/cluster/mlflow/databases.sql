-- The second database, of user names and permissions; the first is made by POSTGRES_DB.
CREATE DATABASE mlflow_auth;
