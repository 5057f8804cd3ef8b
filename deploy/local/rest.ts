/** A problem+json answer of the gateway, as a failure with what to do next. */
export class RestProblem extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    readonly detail: string,
    readonly next: string,
  ) {
    super(`${status} ${code}: ${detail}`);
  }
}

/** The gateway's REST API with plain fetch: what curl does, with the key filled in. */
export class RestClient {
  constructor(
    readonly baseUrl: string,
    readonly apiKey: string,
  ) {}

  /** One request; the parsed answer, or RestProblem. */
  async request<T>(method: string, path: string, body?: object, headers: Record<string, string> = {}): Promise<T> {
    const response = await fetch(`${this.baseUrl}${path}`, {
      method,
      headers: {
        authorization: `Bearer ${this.apiKey}`,
        ...(body ? { 'content-type': 'application/json' } : {}),
        ...headers,
      },
      ...(body ? { body: JSON.stringify(body) } : {}),
    });
    const text = await response.text();
    if (!response.ok) {
      const problem = parseObject(text);
      throw new RestProblem(
        response.status,
        textOf(problem.code, 'unknown'),
        textOf(problem.detail, text.slice(0, 500)),
        textOf(problem.next, ''),
      );
    }
    return JSON.parse(text) as T;
  }

  get<T>(path: string, headers: Record<string, string> = {}): Promise<T> {
    return this.request<T>('GET', path, undefined, headers);
  }

  post<T>(path: string, body: object = {}, headers: Record<string, string> = {}): Promise<T> {
    return this.request<T>('POST', path, body, headers);
  }

  /** Every row of a list, page after page. */
  async all<T>(path: string): Promise<T[]> {
    const rows: T[] = [];
    let cursor: string | undefined;
    do {
      const query = cursor ? `${path.includes('?') ? '&' : '?'}cursor=${encodeURIComponent(cursor)}` : '';
      const page = await this.get<{ data: T[]; next_cursor?: string }>(`${path}${query}`);
      rows.push(...page.data);
      cursor = page.next_cursor;
    } while (cursor);
    return rows;
  }
}

const textOf = (value: unknown, otherwise: string): string => (typeof value === 'string' ? value : otherwise);

function parseObject(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}
