// Generated from libs/contracts by `npm run docs`; do not edit.

export const MANIFEST_SCHEMA = {
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "title": "vendor-cloud.yaml",
  "type": "object",
  "required": [
    "app",
    "components"
  ],
  "additionalProperties": false,
  "properties": {
    "app": {
      "type": "string",
      "pattern": "^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$"
    },
    "inputs": {
      "items": {
        "$ref": "#/$defs/InputDeclaration"
      },
      "type": "array",
      "maxItems": 100
    },
    "components": {
      "type": "array",
      "items": {
        "$ref": "#/$defs/NewComponent"
      },
      "maxItems": 100
    }
  },
  "$defs": {
    "NewComponent": {
      "properties": {
        "name": {
          "type": "string",
          "pattern": "^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$"
        },
        "kind": {
          "type": "string",
          "enum": [
            "container-image",
            "external-image",
            "helm-chart",
            "terraform-module",
            "kubernetes-manifests",
            "job"
          ]
        },
        "source": {
          "type": "object",
          "$ref": "#/$defs/SourceRef"
        },
        "image": {
          "type": "string",
          "minLength": 1,
          "maxLength": 500
        },
        "dockerfile": {
          "type": "string",
          "minLength": 1,
          "maxLength": 300
        },
        "depends_on": {
          "items": {
            "type": "string",
            "maxLength": 40
          },
          "type": "array",
          "maxItems": 100
        },
        "values": {
          "type": "object",
          "additionalProperties": true
        },
        "run": {
          "type": "object",
          "$ref": "#/$defs/RunSpec"
        },
        "namespace": {
          "type": "string",
          "pattern": "^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$"
        }
      },
      "type": "object",
      "required": [
        "name",
        "kind"
      ],
      "additionalProperties": false
    },
    "SourceRef": {
      "properties": {
        "url": {
          "type": "string",
          "minLength": 1,
          "maxLength": 500
        },
        "ref": {
          "type": "string",
          "minLength": 1,
          "maxLength": 200
        },
        "directory": {
          "type": "string",
          "minLength": 1,
          "maxLength": 300
        }
      },
      "type": "object",
      "required": [
        "url"
      ],
      "additionalProperties": false
    },
    "RunSpec": {
      "properties": {
        "image": {
          "type": "string",
          "minLength": 1,
          "maxLength": 500
        },
        "command": {
          "items": {
            "type": "string",
            "maxLength": 2000
          },
          "type": "array",
          "maxItems": 50
        },
        "args": {
          "items": {
            "type": "string",
            "maxLength": 2000
          },
          "type": "array",
          "maxItems": 100
        },
        "timeout_seconds": {
          "type": "integer",
          "minimum": 1,
          "maximum": 86400
        }
      },
      "type": "object",
      "required": [
        "image"
      ],
      "additionalProperties": false
    },
    "InputDeclaration": {
      "properties": {
        "name": {
          "type": "string",
          "minLength": 1,
          "maxLength": 60
        },
        "type": {
          "type": "string",
          "enum": [
            "string",
            "number",
            "boolean",
            "list",
            "enum",
            "secret"
          ]
        },
        "required": {
          "type": "boolean"
        },
        "default": {},
        "values": {
          "items": {
            "type": "string",
            "maxLength": 200
          },
          "type": "array",
          "maxItems": 100
        },
        "pattern": {
          "type": "string",
          "minLength": 1,
          "maxLength": 200
        },
        "set_by": {
          "type": "string",
          "enum": [
            "vendor",
            "customer"
          ]
        },
        "description": {
          "type": "string",
          "minLength": 0,
          "maxLength": 300
        }
      },
      "type": "object",
      "required": [
        "name",
        "type"
      ],
      "additionalProperties": false
    }
  }
};
