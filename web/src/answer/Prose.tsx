// What the agent says: markdown from an untrusted hand, shown without HTML of its own, images or scripts.
import { Children, isValidElement, type ReactNode, useMemo } from "react";
import Markdown, { type Components } from "react-markdown";
import rehypeSanitize from "rehype-sanitize";
import remarkGfm from "remark-gfm";
import type { FailingCitation } from "../api/types";
import { Icon } from "../parts/Icon";
import { highlightLines, languageOf } from "../patches/highlight";
import { Runs } from "../patches/Runs";
import { type Citation, linesOf } from "./citations";
import { putBack, SCHEMA, safeHref, setAside } from "./markdown";

interface Props {
  readonly text: string;
  /** The citations that do not hold. */
  readonly failing?: readonly FailingCitation[] | undefined;
}

export default function Prose({ text, failing = NONE }: Props) {
  const { markdown, citations } = useMemo(() => setAside(text), [text]);
  const components = useMemo(() => componentsWith(citations, failing), [citations, failing]);
  return (
    <div className="prose max-w-[75ch]">
      <Markdown
        remarkPlugins={[remarkGfm]}
        rehypePlugins={[[rehypeSanitize, SCHEMA], putBack]}
        components={components}
      >
        {markdown}
      </Markdown>
    </div>
  );
}

const NONE: readonly FailingCitation[] = [];

function componentsWith(citations: readonly Citation[], failing: readonly FailingCitation[]): Components {
  return {
    a: ({ href, children }) => {
      const safe = safeHref(href);
      return safe === undefined ? (
        <span>{children}</span>
      ) : (
        <a href={safe} target="_blank" rel="noopener noreferrer nofollow">
          {children}
        </a>
      );
    },
    cite: ({ node }) => {
      const citation = citations[Number(node?.properties.dataCitation)];
      if (citation === undefined) return null;
      const fault = failing.find((known) => known.citation === citation.text)?.reason;
      return <Chip citation={citation} fault={fault} />;
    },
    // The only input that markdown has: the box of a task list.
    input: ({ checked }) => (
      <>
        <span aria-hidden="true">{checked === true ? "☑" : "☐"}</span>
        <span className="sr-only">{checked === true ? "done:" : "to do:"}</span>
      </>
    ),
    pre: ({ children }) => <CodeBlock>{children}</CodeBlock>,
  };
}

interface ChipProps {
  readonly citation: Citation;
  /** Why it does not hold, if it does not. */
  readonly fault: string | undefined;
}

function Chip({ citation, fault }: ChipProps) {
  const lines = linesOf(citation);
  const where = lines === "" ? "" : `, line${citation.to === undefined ? "" : "s"} ${lines}`;
  return (
    <cite
      title={`${citation.source}${where}${fault === undefined ? "" : ` — does not hold: ${fault}`}`}
      className={`mx-0.5 inline-flex max-w-full items-center gap-1 rounded-full border bg-sunken px-2 align-baseline font-mono text-xs not-italic ${fault === undefined ? "border-line" : "border-warn text-warn"}`}
    >
      {fault === undefined ? (
        <Icon name={citation.kind === "file" ? "file" : "terminal"} className="text-muted" />
      ) : (
        <>
          <Icon name="warning" />
          <span className="sr-only">does not hold: {fault}:</span>
        </>
      )}
      <span className="min-w-0 truncate">
        {citation.kind === "file" ? citation.source : "output"}
        {lines !== "" && <span className="text-muted">:{lines}</span>}
      </span>
    </cite>
  );
}

/** A block of code, coloured when its language is known. */
function CodeBlock({ children }: { readonly children: ReactNode }) {
  const code = Children.toArray(children)[0];
  const props = isValidElement<{ className?: string; children?: ReactNode }>(code) ? code.props : {};
  const language = languageOf(/language-([\w+#.-]+)/.exec(props.className ?? "")?.[1] ?? "");
  const text = typeof props.children === "string" ? props.children : undefined;
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: a block that scrolls must be reachable by keyboard.
    <pre tabIndex={0}>
      {language === undefined || text === undefined ? (
        children
      ) : (
        <code>
          {highlightLines(text.replace(/\n$/, ""), language).map((runs, index) => (
            // biome-ignore lint/suspicious/noArrayIndexKey: lines have no name but their place.
            <span key={index}>
              {index > 0 && "\n"}
              <Runs runs={runs} />
            </span>
          ))}
        </code>
      )}
    </pre>
  );
}
