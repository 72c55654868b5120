"""Write the generated schemas: `python -m streams.topics`, in a checkout."""

from streams.topics.catalog import schemas_dir
from streams.topics.schemas import generated_files


def main() -> None:
    """Write what changed below `schemas/`, and name it."""
    for name, text in generated_files().items():
        path = schemas_dir() / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(path)


if __name__ == "__main__":
    main()
