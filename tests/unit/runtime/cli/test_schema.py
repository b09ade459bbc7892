from runtime.cli.schema import Kind, schema_of
from runtime.spec.inventory import HOST_VARIABLE, SITE_VARIABLE


def test_each_file_has_the_inventorys_variable_as_its_key() -> None:
    assert list(schema_of(Kind.FLEET)["properties"]) == [SITE_VARIABLE]
    assert list(schema_of(Kind.HOST)["properties"]) == [HOST_VARIABLE]


def test_every_reference_leads_somewhere() -> None:
    for kind in Kind:
        schema = schema_of(kind)

        def references(value: object) -> list[str]:
            if isinstance(value, dict):
                own = [value["$ref"]] if "$ref" in value else []
                return own + [ref for item in value.values() for ref in references(item)]
            if isinstance(value, list):
                return [ref for item in value for ref in references(item)]
            return []

        for reference in references(schema):
            assert reference.removeprefix("#/$defs/") in schema["$defs"]
