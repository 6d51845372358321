-- Included after a statement that has to be refused: says with what, and stops the script when it was not.
\set ON_ERROR_STOP on
\if :ERROR
    \echo '   refused, SQLSTATE' :LAST_ERROR_SQLSTATE
\else
    DO $$ BEGIN RAISE EXCEPTION 'the statement above had to be refused, and was not'; END $$;
\endif
