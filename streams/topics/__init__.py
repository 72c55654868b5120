"""The topics: what their files under `schemas/` say, and the same on a broker."""

from streams.topics.catalog import TopicFile, TopicsError, load_topics, schemas_dir

__all__ = ["TopicFile", "TopicsError", "load_topics", "schemas_dir"]
