// Copies a text and says so, by eye and by ear.
import { useState } from "react";
import { Button } from "./Button";

interface Props {
  readonly label: string;
  readonly text: string;
  readonly unusable?: string | undefined;
}

export function CopyButton({ label, text, unusable }: Props) {
  const [said, setSaid] = useState("");
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      setSaid("Copied");
    } catch {
      setSaid("The browser does not allow it");
    }
    setTimeout(() => setSaid(""), 2500);
  };
  return (
    <>
      <Button icon={said === "Copied" ? "check" : "copy"} onClick={() => void copy()} unusable={unusable}>
        {label}
      </Button>
      <span role="status" className={said === "" || said === "Copied" ? "sr-only" : "text-sm text-bad"}>
        {said}
      </span>
    </>
  );
}
