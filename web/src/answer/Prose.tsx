// What the agent says: markdown from an untrusted hand, shown without HTML of its own, images or scripts.
import { Children, isValidElement, type ReactNode, useMemo } from "react";
import Markdown, { type Components } from "react-markdown";
import rehypeSanitize from "rehype-sanitize";
import remarkGfm from "remark-gfm";
import { Icon } from "../parts/Icon";
import { highlightLines, languageOf } from "../patches/highlight";
import { Runs } from "../patches/Runs";
import { type Citation, linesOf } from "./citations";
import { putBack, SCHEMA, safeHref, setAside } from "./markdown";

export default function Prose({ text }: { readonly text: string }) {
  const { markdown, citations } = useMemo(() => setAside(text), [text]);
  const components = useMemo(() => componentsWith(citations), [citations]);
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

function componentsWith(citations: readonly Citation[]): Components {
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
      return citation === undefined ? null : <Chip citation={citation} />;
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

function Chip({ citation }: { readonly citation: Citation }) {
  const lines = linesOf(citation);
  const where = lines === "" ? "" : `, line${citation.to === undefined ? "" : "s"} ${lines}`;
  return (
    <cite
      title={`${citation.source}${where}`}
      className="mx-0.5 inline-flex max-w-full items-center gap-1 rounded-full border border-line bg-sunken px-2 align-baseline font-mono text-xs not-italic"
    >
      <Icon name={citation.kind === "file" ? "file" : "terminal"} className="text-muted" />
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
