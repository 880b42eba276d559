/**
 * `/docs`: the API's description and a page to read it, all from the binary. The plugin's page would load its script and
 * style from a content delivery network; both are served here instead, so that it works without the internet and tells
 * nobody who looks.
 */
import { swagger } from "@elysiajs/swagger";
import { Elysia } from "elysia";
import script from "swagger-ui-dist/swagger-ui-bundle.js" with { type: "file" };
import style from "swagger-ui-dist/swagger-ui.css" with { type: "file" };
import { registryPaths } from "./openapi.ts";

export const DOCS_PATH = "/docs";
const SCRIPT_PATH = "/docs/assets/swagger-ui-bundle.js";
const STYLE_PATH = "/docs/assets/swagger-ui.css";

/** Routes of the description, its page, and the page's assets. */
export function createDocsRoutes(version: string) {
  return new Elysia({ name: "docs" })
    .use(
      swagger({
        path: DOCS_PATH,
        provider: "swagger-ui",
        theme: STYLE_PATH,
        documentation: {
          paths: registryPaths(),
          info: {
            title: "Layover",
            version,
            description:
              "One address in front of every container registry: the OCI distribution API and a few system routes.",
          },
        },
        exclude: [SCRIPT_PATH, STYLE_PATH, DOCS_PATH],
      }),
    )
    .get(SCRIPT_PATH, () => asset(script, "text/javascript"), { detail: { hide: true } })
    .get(STYLE_PATH, () => asset(style, "text/css"), { detail: { hide: true } });
}

/** The plugin's page with its one foreign script replaced by ours. */
export async function withOwnScript(page: Response): Promise<Response> {
  const html = (await page.text()).replace(
    /src="https:[^"]*swagger-ui-bundle\.js" crossorigin/,
    `src="${SCRIPT_PATH}"`,
  );
  return new Response(html, {
    status: page.status,
    headers: {
      "content-type": "text/html; charset=utf-8",
      // Whatever a later version of the plugin adds, the page may load nothing from elsewhere.
      "content-security-policy":
        "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:",
    },
  });
}

async function asset(path: string, type: string): Promise<Response> {
  return new Response(await Bun.file(path).bytes(), {
    headers: { "content-type": type, "cache-control": "public, max-age=86400" },
  });
}
