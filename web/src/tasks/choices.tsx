// The two choices every prompt comes with: the mode, and how many attempts are made.
import type { Mode } from "../api/types";
import { Icon } from "../parts/Icon";
import { Segmented } from "../parts/Segmented";

interface Props<T> {
  readonly value: T;
  readonly onChange: (value: T) => void;
  readonly error?: string | undefined;
}

export function ModeChoice(props: Props<Mode>) {
  return (
    <Segmented
      legend="Mode"
      options={[
        {
          value: "code",
          label: (
            <>
              <Icon name="code" /> Code
            </>
          ),
          spoken: "Code: change the code",
        },
        {
          value: "ask",
          label: (
            <>
              <Icon name="ask" /> Ask
            </>
          ),
          spoken: "Ask: a question, nothing is changed",
        },
      ]}
      {...props}
    />
  );
}

const COUNTS = [1, 2, 3, 4].map((count) => ({
  value: count,
  label: count,
  spoken: count === 1 ? "1 attempt" : `${count} attempts side by side`,
}));

export function AttemptsChoice(props: Props<number>) {
  return <Segmented legend="Attempts" options={COUNTS} {...props} />;
}
