// What goes wrong between here and the service, as one error type with words for a person (RFC 9457 problem details).

export interface FieldError {
  readonly field: string;
  readonly message: string;
}

/** A refusal of the service, or no answer at all (`status` 0). */
export class Problem extends Error {
  override readonly name = "Problem";

  constructor(
    readonly status: number,
    readonly title: string,
    readonly detail: string,
    readonly errors: readonly FieldError[] = [],
  ) {
    super(detail === "" ? title : detail);
  }

  /** Whether the service does not know who is asking. */
  get signedOut(): boolean {
    return this.status === 401;
  }

  /** Whether the same request may well work in a moment. */
  get passing(): boolean {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }

  /** What is wrong with one field, if the service named it. */
  field(name: string): string | undefined {
    return this.errors.find((error) => error.field === name)?.message;
  }

  /** Whether each thing that is wrong has its place beside one of these fields. */
  isCoveredBy(fields: readonly string[]): boolean {
    return this.errors.length > 0 && this.errors.every((error) => fields.includes(error.field));
  }
}

/** Reads the body of a refusal, whatever it turns out to be. */
export function problemFrom(status: number, body: unknown): Problem {
  if (!isRecord(body)) {
    return new Problem(status, titleOf(status), "");
  }
  return new Problem(
    status,
    typeof body.title === "string" && body.title !== "" ? body.title : titleOf(status),
    typeof body.detail === "string" ? body.detail : "",
    Array.isArray(body.errors) ? body.errors.filter(isFieldError) : [],
  );
}

/** Turns whatever was thrown into a problem: a failed `fetch` means that nobody answered. */
export function asProblem(thrown: unknown): Problem {
  if (thrown instanceof Problem) {
    return thrown;
  }
  if (thrown instanceof TypeError) {
    return new Problem(
      0,
      "Carrel does not answer",
      "The service cannot be reached. Is `carrel serve` still running?",
    );
  }
  return new Problem(0, "Something went wrong", thrown instanceof Error ? thrown.message : String(thrown));
}

function titleOf(status: number): string {
  switch (status) {
    case 401:
      return "You are not signed in";
    case 403:
      return "This is not allowed";
    case 404:
      return "There is nothing here";
    case 429:
      return "Too many requests; try again in a moment";
    default:
      return status >= 500 ? "The service could not answer" : `The service refused (${status})`;
  }
}

function isFieldError(value: unknown): value is FieldError {
  return isRecord(value) && typeof value.field === "string" && typeof value.message === "string";
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
